"""What both planes of Raymart share: money, units, ids, time, errors, wire messages and ports. No I/O."""
