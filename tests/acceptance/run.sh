#!/usr/bin/env bash
# Start a stack of its own (or use RAYMART_CREDENTIALS of a running one) and drive it with other people's clients.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/acceptance/stack.sh
$clients/bin/python tests/acceptance/openai_client.py "$credentials"
$clients/bin/python tests/acceptance/openai_images.py "$credentials"
$clients/bin/python tests/acceptance/a1111_client.py "$credentials"
$clients/bin/python tests/acceptance/openai_embeddings.py "$credentials"
$clients/bin/python tests/acceptance/gql_client.py "$credentials"
$clients/bin/python tests/acceptance/rest_client.py "$credentials"
