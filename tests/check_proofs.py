#!/usr/bin/env python3
"""Checks the output of `exhibit show --json --bytes --proof` with a bundle's files only: check_proofs.py BUNDLE < PROOFS"""
import base64, bz2, hashlib, json, lzma, os, subprocess, sys, zlib
bundle = sys.argv[1]
sha = lambda b: hashlib.sha256(b).digest()
read = lambda name: open(os.path.join(bundle, name), 'rb').read()
def root(leaves):
    if len(leaves) < 2: return sha(b'\0' + leaves[0]) if leaves else sha(b'')
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(b'\1' + root(leaves[:k]) + root(leaves[k:]))
def included(leaf, index, size, path):                                   # RFC 9162, 2.1.3.2
    h, fn, sn = sha(b'\0' + leaf), index, size - 1
    for p in map(bytes.fromhex, path):
        if fn & 1 or fn == sn:
            h = sha(b'\1' + p + h)
            while not fn & 1 and fn: fn, sn = fn >> 1, sn >> 1
        else: h = sha(b'\1' + h + p)
        fn, sn = fn >> 1, sn >> 1
    return h if sn == 0 else None
# 1. the manifest is signed; its hash is in the log; the log is under the signed checkpoint
path = lambda name: os.path.join(bundle, name)
subprocess.run(['openssl', 'pkeyutl', '-verify', '-pubin', '-inkey', path('keys/signer.pub.pem'), '-rawin',
                '-in', path('manifest.json'), '-sigfile', path('manifest.json.sig')], check=True, stdout=subprocess.DEVNULL)
lines = read('custody.jsonl').split(b'\n')[:-1]
origin, size, want = read('checkpoint').decode().split('\n')[:3]
assert base64.b64encode(root(lines[:int(size)])).decode() == want, 'the log does not give the checkpoint'
sealed = [e for e in map(json.loads, lines) if e['type'] == 'bundle.sealed']
digest = hashlib.sha256(read('manifest.json')).hexdigest()
assert any(s['sha256'] == digest for s in sealed[-1]['subject']), 'the log seals another manifest'
streams = {s['name']: s for s in json.loads(read('manifest.json'))['streams']}
tables, cache = {}, {}
for name, s in streams.items():
    table = read(s['chunks']['path'])
    assert hashlib.sha256(table).hexdigest() == s['chunks']['sha256']
    tables[name] = [row.split('\t') for row in table.decode().split('\n')[1:-1]]
def chunk(name, index):
    if (name, index) not in cache:
        _, offset, length, digest, segment, at, n = tables[name][index]
        with open(path(f'data/{name}/{segment}'), 'rb') as f: f.seek(int(at)); frame = f.read(int(n))
        data = subprocess.run(['zstd', '-dcq'], input=frame, stdout=subprocess.PIPE, check=True).stdout
        assert hashlib.sha256(data).hexdigest() == digest and len(data) == int(length), ('chunk', index)
        cache[name, index] = int(offset), data
    return cache[name, index]
def decode(codec, data):
    if codec == 'zstd': return subprocess.run(['zstd', '-dcq', '--long=27'], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return {'gzip': zlib.decompressobj(31), 'xz': lzma.LZMADecompressor(), 'bzip2': bz2.BZ2Decompressor()}[codec].decompress(data)
# 2. each event: its chunks are in the manifest's root, and its bytes are in its chunks
checked = 0
for proof in map(json.loads, sys.stdin):
    event, name = proof['event'], proof['event']['locator'].split('/')[0]
    stream, rows = streams[name], tables[name]
    for c in proof['chunks']:
        assert rows[c['index']][3] == c['sha256']
        assert included(bytes.fromhex(c['sha256']), c['index'], len(rows), c['path']).hex() == stream['chunk_root'] == proof['chunk_root']
    have = dict(chunk(name, c['index']) for c in proof['chunks'])
    part = lambda a, b: b''.join(d[max(a - o, 0):max(b - o, 0)] for o, d in sorted(have.items()))
    stored, (o, n) = b''.join(part(a, b) for a, b in proof['ranges']), (event['byte_offset'], event['byte_length'])
    codec = event['locator'].rpartition('>')[2] if '>' in event['locator'] else None
    got = decode(codec, stored)[o:o + n] if codec else stored[:n]
    assert got == base64.b64decode(proof['bytes_b64']), ('bytes', event['event_id'])
    checked += 1
print(f'{checked} proofs hold')
