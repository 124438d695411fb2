# Sourced by scripts/setup and scripts/omni-cpu: creates a virtual environment once, also after an interruption.
#
# They set PROGRAM, the name in messages, and VENV, the environment's folder in the current one.
# shellcheck shell=bash

readonly UV=uv==0.13.8 # pinned: --excludes is a new option
readonly LOG=$VENV/setup.log
readonly UNFINISHED=$VENV/setup.unfinished # exists while packages are installed; after a crash, the set-up starts again
readonly DONE=$VENV/setup.done             # DONE.GROUP holds what was installed

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

die() {
  say "$@"
  exit 1
}

# After a system upgrade, bin/python may be another Python, which looks for packages elsewhere.
venv_works() {
  "$VENV/bin/python" - 2>/dev/null <<'PROGRAM'
import importlib.util, sys
sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13) and importlib.util.find_spec("pip")))
PROGRAM
}

find_python() { # CANDIDATE...: sets $python
  local candidate version without_venv=
  local -a candidates=("$@" ${SETUP_PYTHON:+"$SETUP_PYTHON"} python3 python3.13 python3.12 python3.11 python)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    # It is run, because version managers have placeholders for disabled versions.
    version=$("$candidate" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null) || continue
    case $version in 3.11 | 3.12 | 3.13) ;; *) continue ;; esac
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      python=$candidate
      return
    fi
    without_venv=$candidate
  done
  [ -z "$without_venv" ] ||
    die "$without_venv lacks the modules venv and ensurepip. Install them (on Debian and Ubuntu the package" \
      "python3-venv) and run this again."
  die "no Python 3.11, 3.12 or 3.13 found${PYTHON:+ at PYTHON=$PYTHON}. Install one, or set PYTHON to its path."
}

lock() { # held until this shell and its children exit; from Python, since flock(1) is not available everywhere
  mkdir -p .cache
  exec 9>".cache/$PROGRAM.lock"
  "$python" - "$PROGRAM" <<'PROGRAM'
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f"{sys.argv[1]}: another set-up is running in this folder; waiting for it", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks: concurrent set-ups are not prevented
PROGRAM
}

new_venv() { # creates an environment, marked as unfinished
  say "making $VENV with Python $("$python" -c 'import platform; print(platform.python_version())')"
  mkdir "$VENV"
  touch "$UNFINISHED"
  "$python" -m venv "$VENV" >"$LOG" 2>&1 || fail "could not make a virtual environment"
}

# After an error of uv or pip, an environment that was complete before is kept: they resolve before they install.
fail() {
  tail -n 15 "$LOG" >&2
  say "the lines above are from $LOG"
  [ ! -e "$DONE.run" ] || rm -f "$UNFINISHED"
  die "$@"
}

install_uv() {
  "$VENV/bin/python" -m pip install --quiet --no-user "$UV" >>"$LOG" 2>&1 ||
    fail "could not install uv; is the package index that pip uses within reach?"
}

# An installation of gigabytes into another place tells of its downloads; the log has all.
uv_install() {
  if [ -n "${SETUP_VENV:-}" ]; then
    SETUP_VENV=$VENV bash scripts/uv pip install --python "$VENV/bin/python" "$@" 2>&1 | tee -a "$LOG" |
      sed -un 's/^ *\(\(Downloading\|Downloaded\|Building\|Resolved\|Prepared\|Installed\) \)/  \1/p' >&2
  else
    SETUP_VENV=$VENV bash scripts/uv pip install --python "$VENV/bin/python" "$@" >>"$LOG" 2>&1
  fi
}
