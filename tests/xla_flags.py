"""XLA's flags for tests, in this process and in those that tests start."""

# Otherwise compiling networks that run for milliseconds takes most of the suite's time. Without its newer
# emitters of fusions XLA compiles in half to two thirds of the time; LLVM optimises less, too. (At level 0
# XLA computes NaN gradients of small convolutions.)
QUICKLY = '--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false'


def devices(count: int) -> str:
    """`count` CPU devices, programs for which are compiled quickly."""
    return f'--xla_force_host_platform_device_count={count} {QUICKLY}'
