#!/usr/bin/env bash
# scripts/start.sh [OPTION...]: starts the server in the environment of scripts/setup; --help lists the options.
#
# Settings are read from .env in the repository, unless VLLM_ENV_FILE names another file or is empty.
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
