// Launches of clusters of blocks.
#pragma once

#include <array>

#include <cuda_runtime.h>

#include "backend/cuda/launch.h"

namespace halftone::backend::cuda::hopper {

// Describes a launch to cudaLaunchKernelExC: `cluster` neighbouring blocks along x, of which
// `blocks` are a multiple, share memory; with `overlap` the kernel may start while the one before
// it ends, and waits inside. The attributes lie in it, so it stays where it is.
struct ClusterLaunch {
  std::array<cudaLaunchAttribute, 2> attributes{};
  cudaLaunchConfig_t config{};

  ClusterLaunch(dim3 blocks, int cluster, int threads, int shared_bytes, cudaStream_t stream,
                bool overlap = overlaps_launches()) {
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim.x = static_cast<unsigned>(cluster);
    attributes[0].val.clusterDim.y = 1;
    attributes[0].val.clusterDim.z = 1;
    attributes[1] = overlap_attribute();
    config.gridDim = blocks;
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.stream = stream;
    config.attrs = attributes.data();
    config.numAttrs = overlap ? 2 : 1;
  }
  ClusterLaunch(const ClusterLaunch&) = delete;
  ClusterLaunch& operator=(const ClusterLaunch&) = delete;
};

}  // namespace halftone::backend::cuda::hopper
