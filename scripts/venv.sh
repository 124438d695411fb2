# Sourced by scripts/setup and scripts/omni-cpu: a virtual environment that is made once, whatever comes in between.
#
# They set PROGRAM, the name in messages, and VENV, the environment's folder below the current one.
# shellcheck shell=bash

readonly UV=uv==0.13.8 # exact: --excludes is still new there
readonly LOG=$VENV/setup.log
readonly UNFINISHED=$VENV/setup.unfinished # there while we fill an environment of ours: after a crash, start anew
readonly DONE=$VENV/setup.done             # DONE.GROUP holds what was installed

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

die() {
  say "$@"
  exit 1
}

# A system upgrade can put another Python behind bin/python, which then looks for its packages elsewhere.
venv_works() {
  "$VENV/bin/python" - 2>/dev/null <<'PROGRAM'
import importlib.util, sys
sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13) and importlib.util.find_spec("pip")))
PROGRAM
}

find_python() { # CANDIDATE...: sets $python
  local candidate version without_venv=
  local -a candidates=("$@" python3 python3.13 python3.12 python3.11 python)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    # Run, not only looked up: a version manager's stand-in exists for versions that are switched off.
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

lock() { # the lock lives as long as this shell and what it starts; from Python, since flock(1) is not everywhere
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
    pass  # a file system without locks: nothing keeps two set-ups apart
PROGRAM
}

new_venv() { # makes an environment where none is, marked as unfinished
  say "making $VENV with Python $("$python" -c 'import platform; print(platform.python_version())')"
  mkdir "$VENV"
  touch "$UNFINISHED"
  "$python" -m venv "$VENV" >"$LOG" 2>&1 || fail "could not make a virtual environment"
}

# After a failure that uv or pip noticed, an environment that was complete before is kept: they resolve first, install
# then.
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

uv_install() { SETUP_VENV=$VENV scripts/uv pip install --python "$VENV/bin/python" "$@" >>"$LOG" 2>&1; }
