#!/usr/bin/env bash
# scripts/start.sh [OPTION...]: the server with all that scripts/setup installed; its options are those of --help.
#
# The settings in .env beside README.md hold, unless VLLM_ENV_FILE names another file, or nothing.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unset PYTHONPATH PYTHONHOME
python=$root/.venv/bin/python
if [ ! -x "$python" ]; then
  case " $* " in *" -h "* | *" --help "*) sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;; esac
  echo "start.sh: nothing is installed in $root/.venv. Run $root/scripts/setup once, which takes some minutes." >&2
  exit 1
fi
if [ -z "${VLLM_ENV_FILE+set}" ] && [ -f "$root/.env" ]; then export VLLM_ENV_FILE=$root/.env; fi
exec "$python" "$root/vllm_server.py" "$@"
