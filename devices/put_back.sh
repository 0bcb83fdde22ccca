#!/bin/sh
# Puts a board's settings back as they were before boardfit changed them. It lies on the board, so
# that the host at its end, the host at its next connect, and the board itself once the host is
# gone do the same.
#
#   put_back.sh now FOLDER ROOT                  put back what FOLDER/before holds, if there is one
#   put_back.sh watch FOLDER ROOT TOKEN SECONDS  do that as soon as the host is gone: when it has not
#                                                changed FOLDER/heartbeat for nearly SECONDS; end
#                                                when there is nothing (left) to put back
#   put_back.sh governors FOLDER ROOT POLICY NAME ...  set these governors, and read them again
#
# FOLDER/before is written by the host (settings_record.py); ROOT is in front of /sys and /proc.
# Exit code 1: something could not be set; standard output names it, and the file stays for another
# attempt. POSIX shell, with what Android's toybox has.

what=$1 folder=$2 root=$3 token=$4 limit=$5
record=$folder/before
lock=$folder/lock

is_number() { case $1 in '' | *[!0-9]* | ????????*) return 1 ;; esac }
is_name() { case $1 in '' | *[!A-Za-z0-9_-]* | -*) return 1 ;; esac }

# Jetson's tools ask, and nobody is to answer.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@" </dev/null; else sudo -n "$@" </dev/null; fi
}

write_as_root() { # VALUE FILE
  [ "$(cat "$2" 2>/dev/null)" = "$1" ] && return 0
  if [ -w "$2" ]; then
    printf '%s\n' "$1" 2>/dev/null >"$2"
  else
    printf '%s\n' "$1" | sudo -n tee "$2" >/dev/null 2>&1
  fi
  [ "$(cat "$2" 2>/dev/null)" = "$1" ]
}

governors() { # POLICY NAME ...; a policy whose cores are switched off is passed over
  result=0
  while [ $# -ge 2 ]; do
    file=$root/sys/devices/system/cpu/cpufreq/$1/scaling_governor
    if [ -e "$file" ]; then write_as_root "$2" "$file" || result=1; fi
    shift 2
  done
  return $result
}

power_mode() { # the number stands alone below the name, among warnings
  above=
  nvpmodel -q 2>/dev/null | while read -r line; do
    case $above in
    *"NV Power Mode:"*) is_number "$line" && printf '%s' "$line" && break ;;
    esac
    above=$line
  done
}

stored_clocks_are_sound() { # jetson_clocks writes what a line holds to the file it names, as root
  [ -s "$folder/clocks" ] || return 1
  while read -r line; do
    case $line in
    *..* | *[!A-Za-z0-9_./:@,+-]*) return 1 ;;
    /sys/*) ;;
    */*) return 1 ;;
    esac
  done <"$folder/clocks"
}

put_back() {
  [ -e "$record" ] || return 0
  boot='' mode='' clocks='' fixed='' policies='' whole='' sound=1
  while read -r key one two rest; do
    [ -z "$rest$whole" ] || sound=
    case $key in
    boardfit-settings) [ "$one" = 1 ] || sound= ;;
    token) ;;
    boot) boot=$one ;;
    nvpmodel) if is_number "$one"; then mode=$one; else sound=; fi ;;
    jetson_clocks) clocks=1 ;;
    fixed_performance) fixed=1 ;;
    governor)
      if is_number "${one#policy}" && is_name "$two"; then
        policies="$policies policy${one#policy} $two"
      else
        sound=
      fi
      ;;
    end) whole=1 ;;
    *) sound= ;;
    esac
  done <"$record"
  [ -n "$sound" ] && [ -n "$whole" ] || { echo "the record is damaged"; return 1; }
  failed=
  now=unknown
  read -r now 2>/dev/null <"$root/proc/sys/kernel/random/boot_id"
  # A restart undoes all but the power mode, which a Jetson sets again when it starts.
  [ "$now" = "$boot" ] || clocks='' fixed='' policies=''
  # Cores that the power mode switches off take their governor with them: so before and after it.
  # shellcheck disable=SC2086  # words that were checked above
  governors $policies
  if [ -n "$mode" ] && [ "$(power_mode)" != "$mode" ]; then
    as_root nvpmodel -m "$mode" >/dev/null 2>&1
    [ "$(power_mode)" = "$mode" ] || failed="$failed nvpmodel"
  fi
  if [ -n "$clocks" ]; then
    # It ends with 0 also where it could not write, and a path with spaces is too much for it.
    answer=Error
    stored_clocks_are_sound &&
      answer=$(cd "$folder" && as_root jetson_clocks --restore clocks 2>&1 || echo Error)
    case $answer in
    *Error*) failed="$failed jetson_clocks" ;;
    esac
  fi
  if [ -n "$fixed" ]; then
    cmd power set-fixed-performance-mode-enabled false </dev/null >/dev/null 2>&1 ||
      failed="$failed fixed_performance"
  fi
  # shellcheck disable=SC2086
  governors $policies || failed="$failed governor"
  if [ -n "$failed" ]; then
    echo "${failed# }"
    return 1
  fi
  rm -f "$record" "$folder/clocks"
}

is_ours() { # whether the record is the one that this watchdog was started for
  while read -r key one _; do
    [ "$key $one" = "token $token" ] && return 0
  done 2>/dev/null <"$record"
  return 1
}

locked_put_back() {
  tries=0
  until mkdir "$lock" 2>/dev/null; do
    tries=$((tries + 1))
    # Whoever held it for so long was killed; and doing it twice does no harm.
    [ $tries -le 20 ] || break
    sleep 1
  done
  result=0
  if [ "$what" = now ] || is_ours; then put_back || result=1; fi
  rmdir "$lock" 2>/dev/null
  return $result
}

watch() {
  trap '' HUP
  echo $$ >"$folder/watchdog"
  # It looks rarely, since that disturbs what is measured. Looks are counted, and no clock is asked:
  # neither the wall's, which jumps, nor the uptime, in which a phone may have slept with its host.
  pause=$((limit / 6))
  [ $pause -ge 1 ] || pause=1
  [ $pause -le 10 ] || pause=10
  beat='' silent=0 failures=0
  while is_ours; do
    news=
    read -r news 2>/dev/null <"$folder/heartbeat"
    if [ -n "$news" ] && [ "$news" != "$beat" ]; then
      beat=$news
      silent=0
    fi
    # A beat is seen up to a pause late, and so is its absence.
    if [ $((silent + 2 * pause)) -gt "$limit" ]; then
      locked_put_back && break
      failures=$((failures + 1)) # again later, but not for ever
      [ $failures -lt 10 ] || break
      silent=0
    fi
    sleep $pause
    silent=$((silent + pause))
  done
  # Another one may have been started since.
  [ "$(cat "$folder/watchdog" 2>/dev/null)" = $$ ] && rm -f "$folder/watchdog"
}

case $what in
now) locked_put_back ;;
watch) watch ;;
governors)
  shift 3
  governors "$@"
  ;;
esac
