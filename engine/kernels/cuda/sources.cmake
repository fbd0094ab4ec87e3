# The CUDA ops, for nvcc and, in tests, for the emulation on the host.
set(BATON_CUDA_KERNELS checksum.cu copy_rows.cu decode_attention.cu dequantize.cu embedding.cu
                       fill_random.cu invariant_linear.cu invariant_tiles.cu prefill_attention.cu
                       quantize_rows.cu quantized_linear.cu rms_norm.cu rope_write.cu sampling.cu silu_mul.cu sum_gathered.cu)
# Of those, where a fused multiply-add would change the last bit from what the CPU computes.
set(BATON_CUDA_UNFUSED_KERNELS fill_random.cu sampling.cu)
# For compute capability 9.0a alone.
set(BATON_CUDA_SM90A_KERNELS wgmma_attention.cu)
set(BATON_CUDA_HOST_SOURCES attention.cc context.cc linear.cc matrix.cc product_plans.cc quantized_weights.cc
                            sampler.cc)
