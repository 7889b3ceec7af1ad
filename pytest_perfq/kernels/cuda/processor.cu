// What the current GPU is: how many multiprocessors share out the blocks of a launch, and which products it has.

#include "device.cuh"

#ifdef PERFQ_EMULATED
#include <cstdlib>
#endif

namespace perfq::cuda {

#ifdef PERFQ_EMULATED
// A small GPU, so that small shapes are many blocks on it; of compute capability 9.0 if PERFQ_EMULATED_CAPABILITY says nothing.
extern "C" int perfq_cuda_processor(Processor* found) {
  const char* said = std::getenv("PERFQ_EMULATED_CAPABILITY");
  *found = {4, said ? std::atoi(said) : 90};
  return 0;
}
#else
extern "C" int perfq_cuda_processor(Processor* found) {
  thread_local int known_device = -1;
  thread_local Processor known{};
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return static_cast<int>(error);
  if (device != known_device) {
    int multiprocessors = 0, major = 0, minor = 0;
    cudaError_t error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (!error) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    if (error) return static_cast<int>(error);
    known = {multiprocessors, 10 * major + minor};
    known_device = device;
  }
  *found = known;
  return 0;
}
#endif

}  // namespace perfq::cuda
