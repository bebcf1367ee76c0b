//! The scripts of the checks: Python's standard library and nothing else.

/// Of a log: that each entry names the one before, and the root over the first of them.
pub(super) const CHAIN: &str = r"import hashlib, json, sys
lines = open(sys.argv[1], 'rb').read().split(b'\n')[:-1][:int(sys.argv[2])]
prev = '0' * 64
for number, line in enumerate(lines):
    entry = json.loads(line)
    assert entry['seq'] == number and entry['prev'] == prev, f'the chain breaks at entry {number}'
    prev = hashlib.sha256(line).hexdigest()
H = lambda data: hashlib.sha256(data).digest()
def root(leaves):
    if len(leaves) == 1: return H(b'\0' + leaves[0])
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return H(b'\1' + root(leaves[:k]) + root(leaves[k:]))
print(len(lines), 'entries, root', root(lines).hex())";

/// The fingerprint of a public key, as OpenSSH writes it.
pub(super) const FINGERPRINT: &str = r"import base64, hashlib, sys
der = base64.b64decode(''.join(open(sys.argv[1]).read().split('\n')[1:-2]))
blob = b'\0\0\0\x0bssh-ed25519\0\0\0\x20' + der[-32:]
print('SHA256:' + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('='))";

/// The root over the hashes in a table of chunks.
pub(super) const CHUNKS: &str = r"import hashlib, sys
H = lambda data: hashlib.sha256(data).digest()
with open(sys.argv[1]) as table:
    next(table)
    level = [H(b'\0' + bytes.fromhex(line.split('\t')[3])) for line in table]
if not level: level = [H(b'')]
while len(level) > 1:
    level = [H(b'\1' + level[i] + level[i + 1]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
print(level[0].hex())";

/// That the extents partition a stream, and its bytes in each state.
pub(super) const LEDGER: &str = r"import sys
end, states = 0, {}
with open(sys.argv[1]) as table:
    next(table)
    for line in table:
        start, length, state = line.rstrip('\n').split('\t')[:3]
        assert int(start) == end, f'not a partition at byte {start}'
        end += int(length)
        states[state] = states.get(state, 0) + int(length)
for state in sorted(states): print(state, states[state])
print('sum', end)";
