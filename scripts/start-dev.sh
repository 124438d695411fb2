#!/usr/bin/env bash
# scripts/start-dev.sh [OPTION...]: runs the server over HTTP and restarts it whenever one of its .py files changes.
#
# Options and settings as for scripts/start.sh. stdio is not supported: a client would not notice the restart, and the
# state of its initialize would be lost.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unset PYTHONPATH PYTHONHOME
python=$root/.venv/bin/python

say() { printf 'start-dev.sh: %s\n' "$*" >&2; }

for option; do
  case $option in
    -h | --help)
      cat <<USAGE
usage: scripts/start-dev.sh [OPTION...]: runs the server over HTTP (at http://127.0.0.1:8080/mcp by default), and
restarts it whenever one of its .py files changes. Ctrl-C ends it. The options are those of scripts/start.sh:

USAGE
      exec "$root/scripts/start.sh" --help
      ;;
    # These print something and exit.
    --version | --check | --check=* | --print-config | --print-config=* | --install | --install=*)
      exec "$root/scripts/start.sh" "$@"
      ;;
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
# Each folder without its subfolders: .venv alone has tens of thousands of files.
folders=("$root")
for package in "$root"/*/__init__.py; do
  package=${package%/__init__.py}
  case ${package##*/} in tests | benchmarks | omni_cpu) continue ;; esac
  while IFS= read -r folder; do folders+=("$folder"); done <<<"$(find "$package" -type d ! -name __pycache__)"
done
printf -v command '%q ' "$root/scripts/start.sh" "$@"
exec "$python" -m watchfiles --filter python --target-type command --non-recursive --verbosity warning \
  "$command" "${folders[@]}"
