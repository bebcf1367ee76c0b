#!/usr/bin/env python3
"""Checks the output of `exhibit show --json --bytes --proof` with a bundle's files only: check_proofs.py BUNDLE < PROOFS"""
import base64, bz2, functools, hashlib, json, lzma, os, subprocess, sys, zlib
sha, path = lambda data: hashlib.sha256(data).digest(), lambda name: os.path.join(sys.argv[1], name)
unzstd = lambda data: subprocess.run(['zstd', '-dcq', '--long=27'], input=data, capture_output=True).stdout
def read(name, at=0, n=-1):
    with open(path(name), 'rb') as f: f.seek(at); return f.read(n)
def root(leaves):                                                        # RFC 9162, 2.1.1
    if len(leaves) < 2: return sha(b'\0' + leaves[0]) if leaves else sha(b'')
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(b'\1' + root(leaves[:k]) + root(leaves[k:]))
def included(leaf, fn, size, nodes):                                     # RFC 9162, 2.1.3.2
    h, sn = sha(b'\0' + leaf), size - 1
    for p in map(bytes.fromhex, nodes):
        is_right = fn & 1 or fn == sn
        h = sha(b'\1' + (p + h if is_right else h + p))
        while is_right and fn and not fn & 1: fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    return h.hex() if sn == 0 else None
# 1. the manifest is signed; its hash is in the log; the log gives the checkpoint
subprocess.run(['openssl', 'pkeyutl', '-verify', '-pubin', '-inkey', path('keys/signer.pub.pem'), '-rawin', '-in', path('manifest.json'),
                '-sigfile', path('manifest.json.sig')], check=True, stdout=subprocess.DEVNULL)
manifest, lines, digest = json.loads(read('manifest.json')), read('custody.jsonl').split(b'\n')[:-1], sha(read('manifest.json')).hex()
size, want = read('checkpoint').decode().split('\n')[1:3]
assert base64.b64encode(root(lines[:int(size)])).decode() == want, 'the log does not give the checkpoint'
sealed = next(e for e in map(json.loads, lines) if e['type'] == 'bundle.sealed' and digest in [s['sha256'] for s in e['subject']])
streams, tables = {s['name']: s for s in manifest['streams']}, {}
for name, s in streams.items():
    assert sha(read(s['chunks']['path'])).hex() == s['chunks']['sha256'], 'the manifest has another table of chunks'
    tables[name] = [row.split('\t') for row in read(s['chunks']['path']).decode().split('\n')[1:-1]]
@functools.cache
def chunk(name, index):                                                  # its place in the stream, and its bytes
    _, offset, length, digest, segment, at, n = tables[name][index]
    data = unzstd(read(f'data/{name}/{segment}', int(at), int(n)))
    assert sha(data).hex() == digest and len(data) == int(length), ('chunk', index)
    return int(offset), data
def decode(codec, data, n):                                              # the first n bytes, through all members
    new, out = {'gzip': lambda: zlib.decompressobj(31), 'xz': lzma.LZMADecompressor, 'bzip2': bz2.BZ2Decompressor}.get(codec), b''
    while new and data and len(out) < n: member = new(); out += member.decompress(data, n - len(out)); data = member.unused_data
    return out if new else unzstd(data)
def is_made_of(want, parts):                                             # holes of a file are in no range, and read as zeros
    for part in parts:
        hole, found, want = want.partition(part)
        if hole.strip(b'\0') or not found: return False
    return not want.strip(b'\0')
# 2. each event: its chunks are in the manifest's root, and its bytes are in its chunks
packed = 0
for count, proof in enumerate(map(json.loads, sys.stdin), 1):
    event, name, (place, _, codec) = (e := proof['event']), e['locator'].split('/')[0], e['locator'].rpartition('>')
    assert proof['manifest_sha256'] == digest and proof['sealed_by_entry'] == sealed['seq'], ('manifest', event['event_id'])
    for c in proof['chunks'] + proof['map_chunks']:
        inside = included(bytes.fromhex(c['sha256']), c['index'], len(tables[name]), c['path'])
        assert c['sha256'] == tables[name][c['index']][3] and inside == streams[name]['chunk_root'] == proof['chunk_root'], ('path', c)
    held = [chunk(name, index) for index in sorted({c['index'] for c in proof['chunks']})]
    stored = [b''.join(data[max(a - at, 0):max(b - at, 0)] for at, data in held) for a, b in proof['ranges']]
    parts = [(p['offset'], base64.b64decode(p['bytes_b64'])) for p in [{'offset': event['byte_offset'], **proof}] + proof['pieces']]
    plain = decode(codec, b''.join(stored), max(o + len(b) for o, b in parts)) if place else b''
    good = all(plain[o:o + len(b)] == b for o, b in parts) if place else is_made_of(b''.join(b for _, b in parts), stored)
    good, packed = good or 'stored_as' in proof, packed + ('stored_as' in proof)    # inside an imported image: counted, and said
    good &= len(parts[0][1]) == event['byte_length'] and all(0 < b - a == len(s) for s, (a, b) in zip(stored, proof['ranges']))
    assert good, ('bytes', event['event_id'])
print(count, 'proofs hold' + f', of {packed} of them the chunks only, not the bytes packed in them' * bool(packed))
