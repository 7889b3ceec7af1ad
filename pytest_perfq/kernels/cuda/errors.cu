// What the codes of the launchers mean.

#include "device.cuh"

namespace perfq::cuda {

extern "C" const char* perfq_cuda_error(int code) {
#ifdef PERFQ_EMULATED
  return code ? emulation::last_error() : "no error";
#else
  return cudaGetErrorString(static_cast<cudaError_t>(code));
#endif
}

}  // namespace perfq::cuda
