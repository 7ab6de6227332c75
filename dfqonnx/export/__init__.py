"""Export room: writes trained codes and scales into a copy of the normalized graph.

    v -- Q8 -- DQ8 --+---------------------- Add         stream, 8 bits
                     +-- Q -- Clip -- DQ --- Conv        reading, b bits
    INT4 codes -- Cast(INT8) -- DQ(axis 0) ----^
    INT32 codes ---------------- DQ -----------^

The layout is the one that ONNX Runtime turns into integer kernels; each file here holds one of its
rules and says why it is so.
"""
