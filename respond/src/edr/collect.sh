# Runs the collector and packs what it acquired. Set and exported before: folder, bundle, words.
umask 077
cd "$folder" || exit 1
# Whole at once: whoever looks meanwhile sees none, or all of it.
echo $$ > pid.new && mv pid.new pid
hash_of() { { sha256sum 2>/dev/null || shasum -a 256; } < "$1" | cut -d ' ' -f 1; }
# Every word is quoted already.
eval "XDG_DATA_HOME=\"\$folder/data\" ./exhibit --json --no-progress acquire $words --commission \"\$folder/order\" --log-in \"\$folder\"" > acquired.json 2> acquired.words < /dev/null
code=$?
if [ "$code" -gt 1 ]; then
  echo "exhibit: failed the collector ended with $code: $(tail -c 400 acquired.words | tr '\n' ' ')" > state.new
elif ./exhibit -q commission --give "$folder/$bundle" > bundle.tar 2> given.words < /dev/null; then
  echo "exhibit: done $code $(wc -c < bundle.tar | tr -d ' ') $(hash_of bundle.tar)" > state.new
else
  echo "exhibit: failed the exhibit was not packed: $(tail -c 400 given.words | tr '\n' ' ')" > state.new
fi
mv state.new state
