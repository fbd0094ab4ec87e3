# The engine on CUDA, for the host's compiler and, in tests, for the emulation.
set(BATON_CUDA_ENGINE_SOURCES cuda_engine.cc cuda_probe.cc cuda_step_sampler.cc)
