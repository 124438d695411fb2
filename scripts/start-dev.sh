#!/usr/bin/env bash
# scripts/start-dev.sh [OPTION...]: the server over HTTP, started again whenever a .py file of it changes.
#
# Options and settings as for scripts/start.sh. Not for stdin and stdout: whoever is at their other end cannot know of
# the restart, and what was agreed with initialize is forgotten in it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unset PYTHONPATH PYTHONHOME
python=$root/.venv/bin/python

say() { printf 'start-dev.sh: %s\n' "$*" >&2; }

for option; do
  case $option in
    -h | --help)
      cat <<USAGE
usage: scripts/start-dev.sh [OPTION...]: the server over HTTP (at http://127.0.0.1:8080/mcp, unless options say
otherwise), started again whenever a .py file of it changes. Ctrl-C ends it. The options are those of scripts/start.sh:

USAGE
      exec "$root/scripts/start.sh" --help
      ;;
    # What prints something and ends has nothing to wait for.
    --version | --check | --check=* | --print-config | --print-config=*) exec "$root/scripts/start.sh" "$@" ;;
  esac
done
options=" $* "
case "${options//=/ }" in
  *" --transport stdio "*)
    say "a client on stdin and stdout would not notice a restart. Use --transport http, or scripts/start.sh."
    exit 2
    ;;
  *" --transport "*) ;;
  *) set -- --transport http "$@" ;;
esac
if ! "$python" -c 'import watchfiles' 2>/dev/null; then
  say "watchfiles is not in $root/.venv; it comes with vLLM. Run $root/scripts/setup once."
  exit 1
fi
# The folders one by one, without what is below them: .venv alone has tens of thousands of files.
folders=("$root")
for package in "$root"/*/__init__.py; do
  package=${package%/__init__.py}
  case ${package##*/} in tests | benchmarks | omni_cpu) continue ;; esac
  while IFS= read -r folder; do folders+=("$folder"); done <<<"$(find "$package" -type d ! -name __pycache__)"
done
printf -v command '%q ' "$root/scripts/start.sh" "$@"
exec "$python" -m watchfiles --filter python --target-type command --non-recursive --verbosity warning \
  "$command" "${folders[@]}"
