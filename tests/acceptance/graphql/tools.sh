#!/usr/bin/env bash
# Other people's GraphQL tools over the committed schema; Node is on the PATH, its packages are installed.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=tests/acceptance/graphql
# relay-compiler would add what it writes to the index of git.
export FORCE_NO_SOURCE_CONTROL=1
(cd $here && mkdir -p relay/__generated__ && node node_modules/relay-compiler/cli.js relay.config.json --output quiet)
(cd $here && node node_modules/@graphql-codegen/cli/cjs/bin.js --config codegen.yml --silent)
node $here/node_modules/eslint/bin/eslint.js --max-warnings 0 -c $here/eslint.config.js graphql/schema.graphql
echo "relay-compiler compiles, graphql-codegen generates, graphql-eslint has no complaint"
