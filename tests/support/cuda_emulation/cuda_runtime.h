// Stands before CUDA's own header on the include path of emulated kernels.
#pragma once

#include "tests/support/cuda_emulation/device_language.h"
#include "tests/support/cuda_emulation/runtime_api.h"
