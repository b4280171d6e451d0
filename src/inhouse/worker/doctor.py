"""What this machine's workshop is like, as JSON: for `inhouse doctor`, which asks it as a process."""

from __future__ import annotations

import json
import platform
from typing import Any

from inhouse.errors import InvalidRequest


def report() -> str:
    """A JSON object: torch's build, the devices, the probes that failed, and a measured matrix product."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    try:
        import torch

        from inhouse import device as devices
        from inhouse import ops, settings
    except ImportError as e:
        found["error"] = f"{e}"
        found["cure"] = (
            "pip install 'inhouse[worker]', with the build of torch that fits this machine's hardware"
        )
        return json.dumps(found)
    try:
        chosen = settings.load()
        ops.kernels.prefer(chosen.kernels)
    except InvalidRequest as e:
        return json.dumps(found | {"error": str(e), "cure": "Mend the setting, or unset it."})
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    discovery = devices.discover()
    found["torch"] = torch.__version__
    found["threads"] = torch.get_num_threads()
    found["devices"] = [
        {
            "label": d.label,
            "vendor": d.vendor,
            "name": d.name,
            "memory_bytes": d.total_bytes,
            "free_bytes": d.free_bytes,
            "matrix_unit": d.capabilities.matrix_unit,
            "dtype": str(d.dtype(chosen.dtype)).removeprefix("torch."),
            "matrix_tflops": devices.matrix_peak(d.torch_device, d.dtype(chosen.dtype)) / 1e12,
            "kernels": [
                {"op": c.op, "name": c.name, "passed_over": [{"name": n, "why": w} for n, w in c.passed_over]}
                for c in (ops.kernels.choose(op, d.torch_device) for op in ops.kernels.operations)
            ],
        }
        for d in discovery.devices
    ]
    found["failed_probes"] = [{"what": what, "why": why} for what, why in discovery.failures]
    return json.dumps(found)
