"""The compiled kernels behind the losses: numba on the CPU, Triton on CUDA."""
