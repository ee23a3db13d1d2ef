#!/usr/bin/env bash
# Build .venv-vllm, the environment of vLLM's CPU build, unless it is there and newer than what it is made from.
# Never into .venv: `vllm-cpu` and `vllm` are one module, and what it pins is not what the rest of us runs on.
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=${UV:-uv}
environment=.venv-vllm
made_from="tests/vllm_cpu/requirements.txt tests/vllm_cpu/overrides.txt core/pyproject.toml serve/pyproject.toml"
stale=no
for file in $made_from; do
  [ "$environment/.synced" -nt "$file" ] || stale=yes
done
[ $stale = yes ] || exit 0

[ -x $environment/bin/python ] || "$uv" venv --quiet --python .venv/bin/python $environment
# torch's CPU build is not on PyPI: from a folder of wheels ($PIP_FIND_LINKS), else from PyTorch's own index.
torch=(--torch-backend cpu)
for folder in ${PIP_FIND_LINKS:-}; do
  torch=(--find-links "$folder")
done
"$uv" pip sync --quiet --python $environment/bin/python "${torch[@]}" tests/vllm_cpu/requirements.txt
# Without their dependencies: those are in the list above, in the versions that vLLM can live with.
"$uv" pip install --quiet --python $environment/bin/python --no-deps --editable core --editable serve
touch $environment/.synced
