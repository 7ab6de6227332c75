"""Export room: writes trained codes and scales into a copy of the normalized graph.

    v -- Q8 -- DQ8 --+---------------------- Add         residual sum, 8 bits
                     +-- Q -- Clip -- DQ --- Conv        consumer-side requantizer, b bits
    INT4 codes -- Cast(INT8) -- DQ(axis 0) ----^
    INT32 codes ---------------- DQ -----------^

The form is the one that the target turns into integer kernels; each file here writes one part.
"""
