"""Kernels for processors, in C++: each beside the plain operation of `ops` that it must agree with."""
