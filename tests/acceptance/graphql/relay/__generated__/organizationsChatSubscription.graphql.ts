/**
 * @generated SignedSource<<7fee315d1c668a461ef94eff2b031907>>
 * @lightSyntaxTransform
 */

/* tslint:disable */
/* eslint-disable */
// @ts-nocheck

import { ConcreteRequest } from 'relay-runtime';
export type ChatRole = "ASSISTANT" | "SYSTEM" | "TOOL" | "USER" | "%future added value";
export type Currency = "USD" | "USDC" | "%future added value";
export type FinishReason = "ABORT" | "ERROR" | "LENGTH" | "STOP" | "%future added value";
export type ProviderSort = "LATENCY" | "PRICE" | "THROUGHPUT" | "%future added value";
export type ChatCompletionInput = {
  maxTokens?: number | null | undefined;
  messages: ReadonlyArray<ChatMessageInput>;
  model: string;
  projectId?: string | null | undefined;
  provider?: ProviderPreferenceInput | null | undefined;
  seed?: string | null | undefined;
  stop?: ReadonlyArray<string>;
  temperature?: number;
  topLogprobs?: number | null | undefined;
  topP?: number;
};
export type ChatMessageInput = {
  content: string;
  name?: string | null | undefined;
  role: ChatRole;
};
export type ProviderPreferenceInput = {
  allowFallbacks?: boolean;
  ignore?: ReadonlyArray<string>;
  maxPrice?: MaxPriceInput | null | undefined;
  only?: ReadonlyArray<string>;
  order?: ReadonlyArray<string>;
  sort?: ProviderSort;
};
export type MaxPriceInput = {
  completionPerMillion?: string | null | undefined;
  promptPerMillion?: string | null | undefined;
};
export type organizationsChatSubscription$variables = {
  input: ChatCompletionInput;
};
export type organizationsChatSubscription$data = {
  readonly chatCompletion: {
    readonly cost: {
      readonly amount: string;
      readonly currency: Currency;
    } | null | undefined;
    readonly delta: string;
    readonly finishReason: FinishReason | null | undefined;
  };
};
export type organizationsChatSubscription = {
  response: organizationsChatSubscription$data;
  variables: organizationsChatSubscription$variables;
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
    "concreteType": "ChatCompletionChunk",
    "kind": "LinkedField",
    "name": "chatCompletion",
    "plural": false,
    "selections": [
      {
        "alias": null,
        "args": null,
        "kind": "ScalarField",
        "name": "delta",
        "storageKey": null
      },
      {
        "alias": null,
        "args": null,
        "kind": "ScalarField",
        "name": "finishReason",
        "storageKey": null
      },
      {
        "alias": null,
        "args": null,
        "concreteType": "Money",
        "kind": "LinkedField",
        "name": "cost",
        "plural": false,
        "selections": [
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "amount",
            "storageKey": null
          },
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "currency",
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
    "name": "organizationsChatSubscription",
    "selections": (v1/*:: as any*/),
    "type": "Subscription",
    "abstractKey": null
  },
  "kind": "Request",
  "operation": {
    "argumentDefinitions": (v0/*:: as any*/),
    "kind": "Operation",
    "name": "organizationsChatSubscription",
    "selections": (v1/*:: as any*/)
  },
  "params": {
    "cacheID": "ceb50ba2e5b3057063f288dc71efe03d",
    "id": null,
    "metadata": {},
    "name": "organizationsChatSubscription",
    "operationKind": "subscription",
    "text": "subscription organizationsChatSubscription(\n  $input: ChatCompletionInput!\n) {\n  chatCompletion(input: $input) {\n    delta\n    finishReason\n    cost {\n      amount\n      currency\n    }\n  }\n}\n"
  }
};
})();

(node as any).hash = "73b49e2883c0638d9aa0d1998322bcc3";

export default node;
