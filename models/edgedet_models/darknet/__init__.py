"""Networks described by darknet's ``.cfg`` text: parsing, shapes, modules, weights."""
