#!/bin/sh
# Says what a board tells of its own state, COUNT times with PAUSE seconds between.
#
#   say_state.sh PAUSE COUNT UPTIME PATTERN ...
#
# UPTIME is /proc/uptime, the patterns name small files of which the first line is told. Each answer
# is `state` with the uptime, a line for each file (`file`, its path, a tab, its line), the words of
# tools (`tool` with its name, then their lines behind a `|`), and `end`. Builtins and the tools
# alone: a program for each file would disturb what is measured. More than one answer are given
# until standard input ends, too.

pause=$1 count=$2 uptime=$3
shift 3

said() {
  line=
  while read -r line || [ -n "$line" ]; do
    printf '|%s\n' "$line"
    line=
  done
}

if [ "$count" -gt 1 ]; then
  exec 3<&0 </dev/null
  {
    while read -r _; do :; done
    kill $$
  } <&3 3<&- >/dev/null 2>&1 &
  exec 3<&-
fi

tools=' '
for tool in vcgencmd tegrastats dumpsys; do
  command -v "$tool" >/dev/null 2>&1 && tools="$tools$tool "
done
# A phone's service takes tens of milliseconds to answer, and heat changes slowly.
case $tools in *' dumpsys '*) pause=$((pause * 3)) ;; esac

number=0
while [ "$number" -lt "$count" ]; do
  at=
  { read -r at _ <"$uptime"; } 2>/dev/null
  # Whoever has gone reads no more.
  printf 'state %s\n' "${at:--}" || exit 0
  oldifs=$IFS
  IFS= # a pattern is expanded, and not split
  for pattern in "$@"; do
    for file in $pattern; do
      value=
      { read -r value || [ -n "$value" ]; } 2>/dev/null <"$file" || continue
      printf 'file %s\t%s\n' "$file" "$value"
    done
  done 2>/dev/null
  case $tools in *' vcgencmd '*)
    echo 'tool get_throttled'
    vcgencmd get_throttled 2>/dev/null | said
    ;;
  esac
  case $tools in *' tegrastats '*)
    # It prints lines for ever, and ends at the first that nobody reads.
    echo 'tool tegrastats'
    tegrastats --interval 100 2>/dev/null | { read -r line && printf '|%s\n' "$line"; }
    ;;
  esac
  case $tools in *' dumpsys '*)
    echo 'tool thermalservice'
    dumpsys thermalservice 2>/dev/null | said
    if [ $((number % 10)) -eq 0 ]; then
      echo 'tool battery'
      dumpsys battery 2>/dev/null | said
    fi
    ;;
  esac
  IFS=$oldifs
  echo end
  number=$((number + 1))
  [ "$number" -ge "$count" ] || sleep "$pause" >/dev/null 2>&1
done
