"""report.html: one self-contained page, with a replay of decodings."""
