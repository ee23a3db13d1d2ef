"""The machine's own Ray: started, watched, started again, and stopped without touching anybody else's.

Public: `MachineRay`, the agent's duty, `RayOptions` and `ray_options`, what a person chooses of it.
"""

from raymart_providers.ray_process.machine_ray import MachineRay
from raymart_providers.ray_process.options import RayOptions, ray_options

__all__ = ["MachineRay", "RayOptions", "ray_options"]
