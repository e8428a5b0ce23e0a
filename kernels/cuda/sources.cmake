# The sources of the CUDA back end, for nvcc and for the emulator of tests/cuda. One operation a file.
set(SPECULAR_CUDA_SOURCES error launch activations
  attention eagle embed filler gemm latents norms rope transformer table
  race head_race verify window loop
  conv group_norm self_attention codec
  chains head
  layer_norm masked_rows masked)
list(TRANSFORM SPECULAR_CUDA_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
list(TRANSFORM SPECULAR_CUDA_SOURCES APPEND .cu)
