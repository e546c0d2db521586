#!/usr/bin/env bash
# Installs learn2learn 0.2.0 for the meta-training objectives maml, meta-sgd and anil.
#
#   scripts/install_learn2learn.sh [PYTHON]
#
# PYTHON, by default `python`, is the interpreter of the environment that has this package; it needs
# a C compiler. The release carries C files that an older Cython generated, which no longer compile
# since Python 3.11: they are generated again, which its setup.py does when it is told `build_ext`.
# Its requirements qpth and gsutil are left out. Nothing here uses them, and qpth replaces NumPy by
# a version below 2.
set -euo pipefail

python=${1:-python}
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

install() {
  "$python" -P -m pip install --disable-pip-version-check --quiet "$@"
}

"$python" -P -c 'import torch' || {
  echo "$python has no PyTorch: give the Python of the environment that has fewshot-i2v" >&2
  exit 1
}
# the versions that are there stay as they are
"$python" -P -c '
from importlib.metadata import version
for name in ("torch", "torchvision", "numpy"):
    print(f"{name}=={version(name)}")
' >"$here/kept.txt"
# Cython 3.1 refuses the sources
install --constraint "$here/kept.txt" "Cython>=0.29.35,<3.1" setuptools wheel gym requests scipy tqdm
install --use-pep517 --no-build-isolation --no-deps \
  --config-settings="--global-option=build_ext" "learn2learn==0.2.0"

# imported away from a checkout, and put to work once
cd "$here"
"$python" -P - <<'END'
import learn2learn
import torch

start = torch.nn.Linear(2, 1)
learner = learn2learn.algorithms.MAML(start, lr=0.1).clone()
learner.adapt(learner(torch.ones(1, 2)).square().sum())
learner(torch.ones(1, 2)).square().sum().backward()
if start.weight.grad is None or not bool(start.weight.grad.isfinite().all()):
    raise SystemExit("learn2learn is installed, but a step of MAML gave no gradient")
print(f"learn2learn {learn2learn.__version__} works")
END
