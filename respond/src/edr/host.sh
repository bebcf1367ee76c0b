# What we do on a host through its EDR. Set before, each quoted:
#   mode          start: begin in the background; whole: to the end; look: how far it is; clean: end it and remove all
#   folder        where it works, ours alone
#   name, sha256  of the collector
#   places        where the EDR may have put it
#   order         the commission
#   bundle, words, collect  for the collector, see collect.sh
umask 077
hash_of() { { sha256sum 2>/dev/null || shasum -a 256; } < "$1" | cut -d ' ' -f 1; }
fail() {
  echo "exhibit: failed $1"
  if [ -n "${S1_OUTPUT_DIR_PATH:-}" ]; then echo "exhibit: failed $1" > "$S1_OUTPUT_DIR_PATH/state"; fi
  exit 0
}
prepare() {
  mkdir -p "$folder" && chmod 700 "$folder" || fail "no folder $folder"
  for place in "$folder" "$PWD" "${S1_PACKAGE_DIR_PATH:-/nowhere}" $places; do
    if [ -f "$place/$name" ] && [ "$(hash_of "$place/$name")" = "$sha256" ]; then
      rm -f "$folder/exhibit"
      cp "$place/$name" "$folder/exhibit"
      break
    fi
  done
  [ -f "$folder/exhibit" ] || fail "the collector $name is nowhere on the host, or is another"
  chmod 500 "$folder/exhibit"
  [ "$(hash_of "$folder/exhibit")" = "$sha256" ] || fail "the collector was changed on its way to the host: it was not run"
  cd "$folder" || fail "no folder $folder"
  rm -rf -- data "$bundle" bundle.tar state state.new pid
  printf '%s\n' "$order" > order
  export folder bundle words
}
case $mode in
  start)
    prepare
    if command -v setsid > /dev/null 2>&1; then beside=setsid; else beside=nohup; fi
    $beside sh -c "$collect" > /dev/null 2>&1 < /dev/null &
    echo "exhibit: started"
    ;;
  whole)
    prepare
    sh -c "$collect"
    cat state
    if [ -n "${S1_OUTPUT_DIR_PATH:-}" ]; then
      if [ -f bundle.tar ]; then mv bundle.tar "$S1_OUTPUT_DIR_PATH/bundle.tar"; fi
      cp state "$S1_OUTPUT_DIR_PATH/state"
      cd / && rm -rf -- "$folder"
    fi
    ;;
  look)
    if [ -f "$folder/state" ]; then cat "$folder/state"
    elif [ -f "$folder/pid" ] && ! kill -0 "$(cat "$folder/pid")" 2>/dev/null; then
      # It may have told and ended between the two looks.
      if [ -f "$folder/state" ]; then cat "$folder/state"
      else echo "exhibit: failed the collector was ended before it was done"; fi
    elif [ -d "$folder" ]; then echo "exhibit: running"
    else echo "exhibit: failed there is no folder $folder"; fi
    ;;
  clean)
    cd / || fail "no way out of $folder"
    # As the kernel names it, whatever links lead there.
    real=$(cd "$folder" 2>/dev/null && pwd -P)
    if [ -n "$real" ]; then
      # The shell around the collector first, which would write on; where it leads a group of its own, all of that. Only if it
      # stands in our folder: its number may be another's by now.
      pid=$(cat "$folder/pid" 2>/dev/null)
      case $pid in
        '' | *[!0-9]*) ;;
        *)
          if [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$real" ]; then
            kill -s KILL -- "-$pid" 2>/dev/null
            kill -s KILL "$pid" 2>/dev/null
          fi
          ;;
      esac
      for process in /proc/[0-9]*; do
        case $(readlink "$process/exe" 2>/dev/null) in
          "$real/exhibit" | "$real/exhibit (deleted)") kill -s KILL "${process#/proc/}" 2>/dev/null ;;
        esac
      done
    fi
    for place in $places; do rm -f -- "$place/$name"; done
    rm -rf -- "$folder" 2>/dev/null
    # What was being ended may have written once more.
    if [ -e "$folder" ]; then sleep 1; rm -rf -- "$folder"; fi
    if [ -e "$folder" ]; then fail "$folder was not removed"; fi
    if [ -n "${S1_OUTPUT_DIR_PATH:-}" ]; then echo "exhibit: clean" > "$S1_OUTPUT_DIR_PATH/state"; fi
    echo "exhibit: clean"
    ;;
esac
