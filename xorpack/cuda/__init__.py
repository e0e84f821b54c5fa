"""A CUDA device through CuPy, and the text of all kernels: what the GPU decoder and the search on a GPU stand on."""
