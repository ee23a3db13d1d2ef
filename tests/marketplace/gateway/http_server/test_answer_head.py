import pytest

from raymart_marketplace.gateway.http_server.answer_head import answer_head


class TestAnswerHead:
    def test_headers_follow_the_status_in_their_order(self):
        head = answer_head(200, [(b"content-length", b"4"), (b"x-a", b"1"), (b"x-a", b"2")])
        assert head.data == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-a: 1\r\nx-a: 2"
        assert (head.content_length, head.asks_to_close, head.names_request) == (4, False, False)

    def test_names_mean_the_same_in_any_case(self):
        head = answer_head(
            200,
            [
                (b"Content-Length", b"4"),
                (b"X-Request-Id", b"r"),
                (b"Connection", b"Close"),
                (b"Transfer-Encoding", b"chunked"),
            ],
        )
        assert (head.content_length, head.asks_to_close, head.names_request) == (4, True, True)
        assert b"chunked" not in head.data

    def test_framing_is_left_to_the_server(self):
        head = answer_head(200, [(b"transfer-encoding", b"chunked"), (b"x-a", b"1")])
        assert head.data == b"HTTP/1.1 200 OK\r\nx-a: 1"

    def test_any_connection_header_may_ask_to_close(self):
        assert answer_head(200, [(b"connection", b"close"), (b"connection", b"keep-alive")]).asks_to_close
        assert not answer_head(200, [(b"connection", b"keep-alive")]).asks_to_close

    def test_no_headers_are_a_head_too(self):
        assert answer_head(204, []).data == b"HTTP/1.1 204 No Content"

    @pytest.mark.parametrize("value", [b"a\nb", b"a\rb", b"a\r\nb: c", b"a\0b"])
    def test_a_value_that_would_end_its_line_is_refused(self, value):
        with pytest.raises(ValueError, match="line break"):
            answer_head(200, [(b"x-a", value)])

    def test_a_name_that_would_end_its_line_is_refused(self):
        with pytest.raises(ValueError, match="line break"):
            answer_head(200, [(b"x-a\r\nx-b", b"1")])
