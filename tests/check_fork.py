#!/usr/bin/env python3
"""Checks a fork proof with nothing but Python and openssl: check_fork.py PROOF"""
import base64, hashlib, json, os, re, subprocess, sys, tempfile
raw = open(sys.argv[1], 'rb').read()
proof = json.loads(raw)
assert raw.decode() == json.dumps(proof, sort_keys=True, separators=(',', ':'), ensure_ascii=False) + '\n', 'not strict JSON'
H, unhex = lambda b: hashlib.sha256(b).digest(), lambda path: [bytes.fromhex(p) for p in path]
def head(side):                                                          # size and root, once the signature is good
    note = re.sub(rb'\\x([0-9a-f]{2})', lambda m: bytes([int(m[1], 16)]), side['checkpoint'].encode())
    text, lines = note.rsplit(b'\n\n', 1)
    (origin, size, root), (name, _, key) = text.decode().split('\n'), side['vkey'].split('+', 2)
    key = base64.b64decode(key)
    ident = H(name.encode() + b'\n' + key)[:4]
    sigs = [base64.b64decode(line.split(' ')[2]) for line in lines.decode().split('\n')[:-1] if line.startswith(f'— {name} ')]
    with tempfile.TemporaryDirectory() as d:
        put = lambda n, b: open(os.path.join(d, n), 'wb').write(b)
        put('key', bytes.fromhex('302a300506032b6570032100') + key[1:]), put('text', text + b'\n')
        good = lambda sig: put('sig', sig) and subprocess.run(['openssl', 'pkeyutl', '-verify', '-pubin', '-keyform', 'DER', '-inkey', f'{d}/key',
            '-rawin', '-in', f'{d}/text', '-sigfile', f'{d}/sig'], capture_output=True).returncode == 0
        assert key[0] == 1 and name == origin and any(s[:4] == ident and good(s[4:]) for s in sigs), 'signature'
    return origin, int(size), base64.b64decode(root), base64.b64encode(H(b'\0\0\0\x0bssh-ed25519\0\0\0 ' + key[1:])).decode().rstrip('=')
def included(leaf, i, n, path):                                          # RFC 9162, 2.1.3.2
    node, last, h = i, n - 1, leaf
    assert i < n
    for p in path:
        assert last
        if node & 1 or node == last:
            h = H(b'\1' + p + h)
            while not node & 1 and node: node, last = node >> 1, last >> 1
        else: h = H(b'\1' + h + p)
        node, last = node >> 1, last >> 1
    return h if last == 0 else None
def grown(m, n, old, path):                                              # RFC 9162, 2.1.4.2: the two roots that the proof gives
    path = ([old] if m & (m - 1) == 0 else []) + path
    node, last = m - 1, n - 1
    while node & 1: node, last = node >> 1, last >> 1
    a = b = path[0]
    for p in path[1:]:
        assert last
        if node & 1 or node == last:
            a, b = H(b'\1' + p + a), H(b'\1' + p + b)
            while not node & 1 and node: node, last = node >> 1, last >> 1
        else: b = H(b'\1' + b + p)
        node, last = node >> 1, last >> 1
    return (a, b) if last == 0 else None
(o, n, a, by), (other, m, b, by2) = head(proof['a']), head(proof['b'])
assert proof['format'] == 'exhibit-fork-proof/1' and o == other, 'two logs'
if 'entry' in proof:
    e = proof['entry']
    leaf = lambda side: H(b'\0' + e[side]['line'].encode())
    assert included(leaf('a'), e['index'], n, unhex(e['a']['path'])) == a and included(leaf('b'), e['index'], m, unhex(e['b']['path'])) == b, 'path'
    assert leaf('a') != leaf('b') and 'first' not in proof, 'the same entry'
elif 'first' in proof:
    f = proof['first']
    (small, root), (large, whole) = ((n, a), (m, b)) if f['of'] == 'b' else ((m, b), (n, a))
    first = bytes.fromhex(f['root'])
    assert 0 < small < large and grown(small, large, first, unhex(f['path'])) == (first, whole) and first != root, 'beginning'
else: assert n == m and a != b, 'no difference'
print(f'FORK of {o}: sizes {n} and {m}, signed by SHA256:{by}' + (f' and SHA256:{by2}' if by != by2 else ''))
