"""Builds the kernels for processors ahead, into the wheel, where there is a compiler; without one the wheel has none,
and they are built on first use, or never."""

from __future__ import annotations

import platform
import runpy
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path(__file__).parent / "src" / "inhouse" / "ops" / "cpu"
X86 = ("x86_64", "AMD64")


class KernelsHook(BuildHookInterface):
    """Puts a library for each kind of processor of this architecture beside the sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return  # a source tree builds what its own processor needs, when it needs it
        compile_ = runpy.run_path(str(PACKAGE / "compile.py"))
        if compile_["compiler"]() is None:
            self.app.display_warning("No C++ compiler: the wheel carries no kernels for processors.")
            return
        shutil.rmtree(PACKAGE / "built", ignore_errors=True)  # of other sources
        is_x86 = platform.machine() in X86
        for variant in compile_["VARIANTS"]:
            if bool(variant.flags) == is_x86:
                compile_["build"](variant, PACKAGE / "built" / compile_["file_name"](variant))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append("src/inhouse/ops/cpu/built/*.so")
