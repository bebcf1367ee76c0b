#!/usr/bin/env python3
"""Checks a proof of Exhibit with nothing but Python and openssl: check_proof.py PROOF [BYTES]

PROOF is a .tlog-proof (an entry of a custody log) or a proof of a chunk, a file or an event. BYTES is the file that a
proof of a file is about. What is printed is proved, given that the key is who you think it is."""
import base64, hashlib, json, os, re, subprocess, sys, tempfile
H, unhex = lambda b: hashlib.sha256(b).digest(), lambda path: [bytes.fromhex(p) for p in path]
unescape = lambda text: re.sub(rb'\\x([0-9a-f]{2})', lambda m: bytes([int(m[1], 16)]), text.encode())
strict = lambda value: json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=False).encode()
def included(leaf, i, n, path):                                          # the root that RFC 9162, 2.1.3.2 gives
    node, last, h = i, n - 1, H(b'\0' + leaf)
    assert 0 <= i < n, 'there is no such leaf'
    for p in path:
        assert last, 'the path is too long'
        if node & 1 or node == last:
            h = H(b'\1' + p + h)
            while not node & 1 and node: node, last = node >> 1, last >> 1
        else: h = H(b'\1' + h + p)
        node, last = node >> 1, last >> 1
    assert last == 0, 'the path is too short'
    return h
def signed(note, vkey):                                                  # origin, size and root of a checkpoint
    text, lines = note.rsplit(b'\n\n', 1)
    (origin, size, root), (name, _, key) = text.decode().split('\n'), vkey.split('+', 2)
    key = base64.b64decode(key)
    ident = H(name.encode() + b'\n' + key)[:4]
    sigs = [base64.b64decode(line.split(' ')[2]) for line in lines.decode().split('\n')[:-1] if line.startswith(f'— {name} ')]
    with tempfile.TemporaryDirectory() as d:
        put = lambda n, b: open(os.path.join(d, n), 'wb').write(b)
        put('key', bytes.fromhex('302a300506032b6570032100') + key[1:]), put('text', text + b'\n')
        good = lambda sig: put('sig', sig) and subprocess.run(['openssl', 'pkeyutl', '-verify', '-pubin', '-keyform', 'DER', '-inkey', f'{d}/key',
            '-rawin', '-in', f'{d}/text', '-sigfile', f'{d}/sig'], capture_output=True).returncode == 0
        assert key[0] == 1 and name == origin and any(s[:4] == ident and good(s[4:]) for s in sigs), 'the signature does not hold'
    print('key: SHA256:' + base64.b64encode(H(b'\0\0\0\x0bssh-ed25519\0\0\0 ' + key[1:])).decode().rstrip('='))
    return origin, int(size), base64.b64decode(root)
def entry(text, line, vkey):                                             # C2SP tlog-proof
    head, note = text.split(b'\n\n', 1)
    first, *rest = head.decode().split('\n')
    assert first == 'c2sp.org/tlog-proof@v1', 'no tlog-proof'
    extra = base64.b64decode(rest.pop(0)[6:]) if rest[0].startswith('extra ') else b''
    index, path = int(rest[0].removeprefix('index ')), [base64.b64decode(h) for h in rest[1:]]
    line = line or extra
    origin, size, root = signed(note, vkey or [v for v in [json.loads(line)['how'].get('vkey')] if v][0])
    assert included(line, index, size, path) == root, 'the entry is not under the checkpoint'
    said = json.loads(line)
    assert said['seq'] == index and strict(said) == line, 'the entry is not strict JSON'
    print(f'entry {index} of the log {origin}, {size} entries: {said["type"]}, {said["time"]["wall"]}')
    return said, origin
raw = open(sys.argv[1], 'rb').read()
content = open(sys.argv[2], 'rb').read() if len(sys.argv) > 2 else None
if raw.startswith(b'c2sp.org/'):
    # The log's key is beside it, as keys/log.vkey; or the last argument.
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), 'keys', 'log.vkey')
    key = content.decode().strip() if content else open(beside).read().strip() if os.path.exists(beside) else None
    entry(raw, None, key)
    sys.exit()
proof = json.loads(raw)
assert strict(proof) + b'\n' == raw and proof['format'] == 'exhibit-proof/1', 'not strict JSON, or of another format'
manifest, seal = unescape(proof['manifest']), proof['seal']
said, origin = entry(unescape(seal['proof']), seal['line'].encode(), seal['vkey'])
names = {s['id']: s for s in said['subject']}
assert said['type'] == 'bundle.sealed' and names['manifest.json']['sha256'] == H(manifest).hex(), 'it does not seal this manifest'
made = json.loads(manifest)
assert made['log']['origin'] == origin, 'another log'
print(f'exhibit {made["exhibit"]} {made["name"]}, manifest {H(manifest).hex()}' + ('' if seal['vkey'] == made['log']['vkey'] else ' (signed by a later key of the log)'))
streams, held = {s['name']: s for s in made['streams']}, {}
for c in proof.get('chunks', []):
    s, start = streams[c['stream']], c['index'] * streams[c['stream']]['chunk_size']
    count = -(-s['size'] // s['chunk_size'])
    assert included(bytes.fromhex(c['sha256']), c['index'], count, unhex(c['path'])).hex() == s['chunk_root'], 'the chunk is not under the chunk_root'
    if 'bytes_b64' in c:
        data = held[c['stream'], start] = base64.b64decode(c['bytes_b64'])
        assert H(data).hex() == c['sha256'] and len(data) == min(s['chunk_size'], s['size'] - start), 'the bytes are not the chunk'
    print(f'chunk {c["index"]} of stream {c["stream"]}, SHA-256 {c["sha256"]}')
if 'file' in proof:
    f = proof['file']
    root = included(f['row'].encode(), f['index'], f['size'], unhex(f['path'])).hex()
    assert root == streams[f['stream']]['catalog_root'], 'the line is not under the catalog_root'
    row = json.loads(f['row'])
    print(f'file {row["path"]}, {row["size"]} bytes, SHA-256 {row["sha256"]}')
    if content is None: print('its bytes were not given: compare their sha256sum with that')
    else: assert H(content).hex() == row['sha256'] and len(content) == row['size'], 'the bytes are not the file'
if 'event' in proof:
    e, record = proof['event'], b''
    for a, b in e['ranges']:
        while a < b:
            start, data = next((at, d) for (name, at), d in held.items() if name == e['stream'] and at <= a < at + len(d))
            part = data[a - start:b - start]
            record, a = record + part, a + len(part)
    assert H(record).hex() == e['sha256'], 'the ranges do not hold the record'
    print(f'record of {len(record)} bytes, SHA-256 {H(record).hex()}; said to give the row {json.dumps(e["row"], ensure_ascii=False)}')
print('PROVED')
