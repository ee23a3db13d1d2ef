"""The whole of Raymart on one machine: embedded servers, the supervisor of all parts, the demo. Imports only core."""
