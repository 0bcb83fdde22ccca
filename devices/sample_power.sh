#!/bin/sh
# Writes down what a board's power meter shows while something runs there.
#
#   sample_power.sh OUT ROOT PAUSE COUNT FILE ...
#
# Each line of OUT is the board's uptime before and after reading, and what each FILE held. It ends
# after COUNT lines, or once OUT.stop exists, and says so on standard output. POSIX shell; `sleep`
# has to understand fractions, as those of Linux and Android do.

out=$1 root=$2 pause=$3 count=$4
shift 4
umask 077
rm -f "$out" "$out.stop"
lines=0
echo started
while [ "$lines" -lt "$count" ] && [ ! -e "$out.stop" ]; do
  begin='' end='' values=''
  read -r begin _ 2>/dev/null <"$root/proc/uptime"
  for file in "$@"; do
    value=
    read -r value 2>/dev/null <"$file"
    values="$values ${value:--}"
  done
  read -r end _ 2>/dev/null <"$root/proc/uptime"
  echo "${begin:--} ${end:--}$values"
  lines=$((lines + 1))
  sleep "$pause"
done >"$out"
echo "ended $lines"
