// What a Relay app would write: nodes, connections with the store's own updates, refetching, subscriptions.
import { graphql } from "relay-runtime";

export const list = graphql`
  query organizationsQuery {
    viewer {
      user {
        id
        email
      }
      organizations(first: 10) @connection(key: "viewer_organizations") {
        edges {
          node {
            ...organizations_keys
          }
        }
      }
    }
  }
`;

export const keys = graphql`
  fragment organizations_keys on Organization
  @refetchable(queryName: "organizationsKeysRefetchQuery")
  @argumentDefinitions(count: { type: "Int", defaultValue: 20 }, cursor: { type: "String" }) {
    id
    name
    apiKeys(first: $count, after: $cursor) @connection(key: "organizations_apiKeys") {
      edges {
        node {
          id
          createdAt
        }
      }
    }
  }
`;

export const revoke = graphql`
  mutation organizationsRevokeMutation($input: RevokeApiKeyInput!) {
    revokeApiKey(input: $input) {
      apiKey {
        id
        revokedAt
      }
      userErrors {
        code
        field
        message
      }
    }
  }
`;

export const chat = graphql`
  subscription organizationsChatSubscription($input: ChatCompletionInput!) {
    chatCompletion(input: $input) {
      delta
      finishReason
      cost {
        amount
        currency
      }
    }
  }
`;

export const deferred = graphql`
  query organizationsDeferredQuery($id: ID!) {
    node(id: $id) {
      __typename
      ... on Organization {
        ...organizations_keys @alias @defer(label: "keys")
      }
    }
  }
`;
