// C interface to the Hopper kernel family for lab.py: lists kernels, binds one to tensors,
// launches.
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "backend/cuda/hopper/attention.h"
#include "backend/cuda/hopper/gemm.h"

using namespace halftone::backend::cuda::hopper;

namespace {
thread_local std::string last_error;
}

extern "C" {

// Mirrors the ctypes structure of lab.py.
struct LabProblem {
  int64_t m, n, channels, images, in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride, pad;
  int64_t x_pitch, y_pitch, residual_pitch;
  const void* x;
  const void* weight;
  void* y;
  const void* residual;
  const float* row_scale;
  const float* column_scale;
  const void* bias;
  const void* row_add;
  const float* y_scale;
  int32_t row_scale_step, rows_per_image, activation;
  int32_t in, out, conv, geglu, activated, bias_element;
};

const char* lab_error() { return last_error.c_str(); }
int lab_kernel_count() { return static_cast<int>(gemm_kernels().size()); }
const char* lab_kernel_name(int i) {
  static thread_local std::string name;
  name = gemm_kernels()[static_cast<size_t>(i)].name();
  return name.c_str();
}
// in, out, form, conv.
void lab_kernel_types(int i, int32_t* types) {
  const GemmKernel& k = gemm_kernels()[static_cast<size_t>(i)];
  types[0] = static_cast<int32_t>(k.in);
  types[1] = static_cast<int32_t>(k.out);
  types[2] = static_cast<int32_t>(k.form);
  types[3] = k.conv ? 1 : 0;
}

void* lab_make(const LabProblem* p, int kernel, int num_sms) {
  try {
    GemmShape s;
    s.in = static_cast<Element>(p->in);
    s.out = static_cast<Element>(p->out);
    s.conv = p->conv != 0;
    s.geglu = p->geglu != 0;
    s.activated = p->activated != 0;
    s.residual = p->residual != nullptr;
    s.m = p->m;
    s.n = p->n;
    s.channels = p->channels;
    s.images = p->images;
    s.in_h = p->in_h;
    s.in_w = p->in_w;
    s.out_h = p->out_h;
    s.out_w = p->out_w;
    s.kernel_h = p->kernel_h;
    s.kernel_w = p->kernel_w;
    s.stride = p->stride;
    s.pad = p->pad;
    s.x_pitch = p->x_pitch;
    s.y_pitch = p->y_pitch;
    s.residual_pitch = p->residual_pitch;
    last_error = unsupported_reason(s);
    if (!last_error.empty()) return nullptr;
    EpilogueArgs e;
    e.row_scale = p->row_scale;
    e.column_scale = p->column_scale;
    e.bias = p->bias;
    e.row_add = p->row_add;
    e.y_scale = p->y_scale;
    e.row_scale_step = p->row_scale_step;
    e.rows_per_image = p->rows_per_image;
    e.bias_element = static_cast<Element>(p->bias_element);
    e.row_add_element = e.bias_element;
    e.activation = static_cast<Activation>(p->activation);
    return new Gemm(s, gemm_kernels()[static_cast<size_t>(kernel)],
                    {p->x, p->weight, p->y, p->residual}, e, num_sms);
  } catch (const std::exception& error) {
    last_error = error.what();
    return nullptr;
  }
}
int lab_launch(const void* gemm, void* stream, int overlap) {
  try {
    static_cast<const Gemm*>(gemm)->launch(static_cast<cudaStream_t>(stream), overlap != 0);
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}
void* lab_attention(int element, const void* q, const void* k, const void* v, void* y,
                    const int64_t* sizes, float scale, int num_sms) {
  try {
    AttentionProblem p;
    p.element = static_cast<Element>(element);
    p.q = q;
    p.k = k;
    p.v = v;
    p.y = y;
    p.batch = sizes[0];
    p.queries = sizes[1];
    p.keys = sizes[2];
    p.heads = sizes[3];
    p.q_pitch = sizes[4];
    p.k_pitch = p.v_pitch = sizes[5];
    p.y_pitch = p.heads * kHeadDim * bytes_of(p.element);
    p.scale = scale;
    return new Attention(p, num_sms);
  } catch (const std::exception& error) {
    last_error = error.what();
    return nullptr;
  }
}
int lab_attend(const void* attention, void* stream) {
  try {
    static_cast<const Attention*>(attention)->launch(static_cast<cudaStream_t>(stream));
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}
void lab_free(void* gemm) { delete static_cast<Gemm*>(gemm); }

}  // extern "C"
