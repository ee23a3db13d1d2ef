// graphql-eslint over the committed schema: what it recommends for schemas and for Relay's conventions, and more of what
// our contract asks for. Departures carry their reason.
import graphql from "@graphql-eslint/eslint-plugin";

const { rules: recommended } = graphql.configs["flat/schema-recommended"];
const { rules: relay } = graphql.configs["flat/schema-relay"];

export default [
  {
    files: ["**/schema.graphql"],
    languageOptions: {
      parser: graphql.parser,
      parserOptions: { graphQLConfig: { schema: "graphql/schema.graphql" } },
    },
    plugins: { "@graphql-eslint": graphql },
    rules: {
      ...recommended,
      ...relay,
      "@graphql-eslint/require-description": [
        "error",
        {
          types: true,
          rootField: true,
          DirectiveDefinition: true,
          EnumValueDefinition: true,
          FieldDefinition: true,
          InputValueDefinition: true,
        },
      ],
      "@graphql-eslint/input-name": ["error", { checkInputType: true, caseSensitiveInputType: false }],
      "@graphql-eslint/no-scalar-result-type-on-mutation": "error",
      // It wants an id on every object. Ours have one where they can be fetched again (Node), which
      // raymart_graphql/conventions.py checks; a sum of money or a day of usage has no identity.
      "@graphql-eslint/strict-id-in-types": "off",
      // Relay's specification lets an edge lead to any object; our contract has `nodes` beside `edges`, and lists such
      // as `userErrors`.
      "@graphql-eslint/relay-edge-types": [
        "error",
        { shouldImplementNode: false, listTypeCanWrapOnlyEdgeType: false },
      ],
    },
  },
];
