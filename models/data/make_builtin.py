#!/usr/bin/env python3
"""Makes the built-in data set: the head of MNIST, as four small idx files.

    python3 models/data/make_builtin.py ../shared/data/mnist models/data/mnist-10k

Reads the four original files from the first folder and writes the first 10,000
training and the first 2,000 test images with their labels to the second, under
the original names. It never resamples, reorders or edits a pixel: the only change
is the count in the header. The gzip streams carry no time and no name, so the same
zlib gives the same bytes; the sha256 sums it prints are of the contents, which are
the same with any zlib.
"""

import gzip
import hashlib
import io
import pathlib
import struct
import sys

TRAIN = 10_000
TEST = 2_000

# Original file, its sha256 as published, how many items to keep.
FILES = [
    ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", TRAIN),
    ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", TRAIN),
    ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", TEST),
    ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", TEST),
]


def head(idx: bytes, keep: int) -> bytes:
    """The idx file that holds the first `keep` items of `idx`."""
    dimensions = idx[3]
    sizes = struct.unpack(f">{dimensions}I", idx[4 : 4 + 4 * dimensions])
    item = 1
    for size in sizes[1:]:
        item *= size
    start = 4 + 4 * dimensions
    if sizes[0] < keep or len(idx) != start + sizes[0] * item:
        sys.exit(f"the header says {sizes}, the file has {len(idx)} bytes, {keep} items are wanted")
    return idx[:4] + struct.pack(">I", keep) + idx[8:start] + idx[start : start + keep * item]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(pathlib.Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    for name, published, keep in FILES:
        original = (source / name).read_bytes()
        found = hashlib.sha256(original).hexdigest()
        if found != published:
            sys.exit(f"{source / name}: sha256 {found}, published {published}; is it the original file?")
        contents = head(gzip.decompress(original), keep)
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
            stream.write(contents)
        (target / name).write_bytes(packed.getvalue())
        print(f"{hashlib.sha256(contents).hexdigest()}  {name.removesuffix('.gz')}")


if __name__ == "__main__":
    main()
