# Runs in the VM, on the terminal of the page. $1: the number of the terminal.
cd
: "${SHELL:=/bin/sh}"
export SHELL
if ! command -v tmux >/dev/null 2>&1; then
  echo "This VM has no tmux, so this shell ends when the page does. (sudo apt install tmux)"
  exec "$SHELL" -l
fi
berth_tmux() { tmux -u -L berth -f /dev/null "$@"; }
if berth_tmux has-session -t "=$1" 2>/dev/null; then
  if [ "$(berth_tmux display-message -p -t "=$1:" "#{history_size}")" -gt 0 ]; then
    berth_tmux capture-pane -p -e -t "=$1:" -S -5000 -E -1
  fi
  # Out of the way of the screen, which is drawn over what is there.
  rows=$(stty size | cut -d " " -f 1)
  while [ "${rows:-0}" -gt 1 ]; do echo; rows=$((rows - 1)); done
fi
exec tmux -u -L berth -f /dev/null start-server \; \
  set-option -s escape-time 10 \; \
  set-option -s set-clipboard off \; \
  set-option -s default-terminal tmux-256color \; \
  set-option -s terminal-overrides "xterm*:smcup@:rmcup@:indn@:clear=\\E[H\\E[2J:RGB" \; \
  set-option -g status off \; \
  set-option -g prefix None \; \
  set-option -g prefix2 None \; \
  set-option -g mouse off \; \
  set-option -g history-limit 10000 \; \
  set-option -g focus-events on \; \
  new-session -A -s "$1"
