"""The inference engine: scheduler, pages, slots, batch, runner, sampler, and the socket in front of them.

Nothing is imported here: `request`, `scheduler`, `pages` and `slots` stay free of torch.
"""
