# The model on CUDA, for the host's compiler and, in tests, for the emulation.
set(BATON_CUDA_MODEL_SOURCES block_copies.cc cuda_device_staging.cc cuda_kv_cache.cc cuda_kv_part.cc cuda_kv_staging.cc cuda_model_load.cc cuda_step.cc
                             cuda_transformer.cc cuda_transformer_setup.cc cuda_weights.cc decode_graphs.cc ordered_communicator.cc)
