/**
 * @generated SignedSource<<36f3d7f9e2e64435eaa05e4346a5f4b5>>
 * @lightSyntaxTransform
 */

/* tslint:disable */
/* eslint-disable */
// @ts-nocheck

import { ConcreteRequest } from 'relay-runtime';
export type UserErrorCode = "BUDGET_EXCEEDED" | "CONFLICT" | "DEADLINE_EXCEEDED" | "FAILED" | "FORBIDDEN" | "INFERENCE_DISABLED" | "INSUFFICIENT_FUNDS" | "INSUFFICIENT_SCOPE" | "INVALID" | "INVALID_CREDENTIALS" | "MODEL_NOT_ALLOWED" | "MODEL_NOT_FOUND" | "NOT_FOUND" | "NO_ENDPOINT" | "RATE_LIMITED" | "SUSPENDED" | "TOO_LARGE" | "UNAVAILABLE" | "UPSTREAM_FAILED" | "%future added value";
export type RevokeApiKeyInput = {
  apiKeyId: string;
};
export type organizationsRevokeMutation$variables = {
  input: RevokeApiKeyInput;
};
export type organizationsRevokeMutation$data = {
  readonly revokeApiKey: {
    readonly apiKey: {
      readonly id: string;
      readonly revokedAt: string | null | undefined;
    } | null | undefined;
    readonly userErrors: ReadonlyArray<{
      readonly code: UserErrorCode;
      readonly field: ReadonlyArray<string> | null | undefined;
      readonly message: string;
    }>;
  };
};
export type organizationsRevokeMutation = {
  response: organizationsRevokeMutation$data;
  variables: organizationsRevokeMutation$variables;
};

const node: ConcreteRequest = (function(){
var v0 = [
  {
    "defaultValue": null,
    "kind": "LocalArgument",
    "name": "input"
  }
],
v1 = [
  {
    "alias": null,
    "args": [
      {
        "kind": "Variable",
        "name": "input",
        "variableName": "input"
      }
    ],
    "concreteType": "RevokeApiKeyPayload",
    "kind": "LinkedField",
    "name": "revokeApiKey",
    "plural": false,
    "selections": [
      {
        "alias": null,
        "args": null,
        "concreteType": "ApiKey",
        "kind": "LinkedField",
        "name": "apiKey",
        "plural": false,
        "selections": [
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "id",
            "storageKey": null
          },
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "revokedAt",
            "storageKey": null
          }
        ],
        "storageKey": null
      },
      {
        "alias": null,
        "args": null,
        "concreteType": "UserError",
        "kind": "LinkedField",
        "name": "userErrors",
        "plural": true,
        "selections": [
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "code",
            "storageKey": null
          },
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "field",
            "storageKey": null
          },
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "message",
            "storageKey": null
          }
        ],
        "storageKey": null
      }
    ],
    "storageKey": null
  }
];
return {
  "fragment": {
    "argumentDefinitions": (v0/*:: as any*/),
    "kind": "Fragment",
    "metadata": null,
    "name": "organizationsRevokeMutation",
    "selections": (v1/*:: as any*/),
    "type": "Mutation",
    "abstractKey": null
  },
  "kind": "Request",
  "operation": {
    "argumentDefinitions": (v0/*:: as any*/),
    "kind": "Operation",
    "name": "organizationsRevokeMutation",
    "selections": (v1/*:: as any*/)
  },
  "params": {
    "cacheID": "67adeb0f6fc57b43a0ff9065b998d3d3",
    "id": null,
    "metadata": {},
    "name": "organizationsRevokeMutation",
    "operationKind": "mutation",
    "text": "mutation organizationsRevokeMutation(\n  $input: RevokeApiKeyInput!\n) {\n  revokeApiKey(input: $input) {\n    apiKey {\n      id\n      revokedAt\n    }\n    userErrors {\n      code\n      field\n      message\n    }\n  }\n}\n"
  }
};
})();

(node as any).hash = "5760e03d62b660e303c93f4f98ed6031";

export default node;
