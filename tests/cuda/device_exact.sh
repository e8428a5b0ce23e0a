#!/bin/bash
# The exactness suites of whole models over the emulated device, on a tiny model of classes: ranks of tokens under the
# device's laws, and pathwise against ar. They take minutes: with SP_TEST_ALL only. tools/gpu-check runs them on a GPU,
# with the sample model. Usage: device_exact.sh LIBRARY TEST_RANKS TEST_IDENTITY
set -euo pipefail
[ -n "${SP_TEST_ALL:-}" ] || exit 0
SPECULAR_DEVICE_LIBRARY=$(realpath "$1")
SP_TEST_MODEL=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../golden/llamagen-tiny")
export SPECULAR_DEVICE_LIBRARY SP_TEST_MODEL SP_TEST_DEVICE=cuda
unset SP_TEST_ALL
SP_TEST_PICTURES=4 "$2"
"$3"
