# Sourced by scripts/train and scripts/test: creates .venv in the checkout and installs bitquote into it,
# by constraints.txt, when the definition of the environment has changed since the last time. Sets `root`.

export PATH  # bash has one even where the environment is empty, and Python needs it to find itself
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)

fail() {
  echo "bitquote: $1" >&2
  exit 1
}

# The first Python of at least 3.11 that can make a virtual environment; PYTHON=... is asked first.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13 python3.14; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

install() {
  local python free_kilobytes
  local log="$root/.venv/install.log"
  python=$(find_python) ||
    fail "needs Python 3.11 or newer with the module venv; install one (Debian: python3 and python3-venv) or set PYTHON=/path/to/python"
  free_kilobytes=$(df -Pk "$root" | awk 'NR == 2 { print $4 }')
  [ "$free_kilobytes" -ge 3000000 ] ||
    fail "needs 3 GB of free disk in $root for its environment, and there are $((free_kilobytes / 1000)) MB"
  echo "bitquote: setting up $root/.venv once (a minute or more)" >&2
  "$root/.venv/bin/python" -c "" 2>/dev/null || rm -rf "$root/.venv"  # made with a Python that has gone
  "$python" -m venv "$root/.venv" || fail "could not create $root/.venv with $python"
  "$root/.venv/bin/python" -m pip install --disable-pip-version-check --constraint "$root/constraints.txt" \
    --editable "$root[dev]" >"$log" 2>&1 || explain_failure "$log"
}

explain_failure() {
  if grep -q "No space left on device" "$1"; then
    fail "the disk is full: free 3 GB and run this again (full record: $1)"
  elif grep -qE "NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Network is unreachable" "$1"; then
    fail "the Python package index cannot be reached: check the network and run this again (full record: $1)"
  fi
  fail "the installation failed: $(grep -m 1 '^ERROR' "$1" || tail -n 1 "$1") (full record: $1)"
}

definition=$(cat "$root/pyproject.toml" "$root/constraints.txt" "${BASH_SOURCE[0]}" | cksum; echo "$root")
if [ ! -x "$root/.venv/bin/bitquote" ] || [ "$(cat "$root/.venv/definition" 2>/dev/null)" != "$definition" ]; then
  install
  echo "$definition" >"$root/.venv/definition"
fi
