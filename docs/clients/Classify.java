// Classify a picture over HTTP with Java 17 or newer: java Classify.java PICTURE [MODEL [ADDRESS]]
//
// Nothing but the JDK is needed. The answer is JSON; use the parser of your project for it.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;

public class Classify {
  /** The three most probable classes of a picture, as JSON. */
  static String classify(HttpClient client, String server, String model, Path picture)
      throws Exception {
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(server + "/v1/classify/" + model + "?top_k=3"))
            .timeout(Duration.ofSeconds(10))
            .header("X-Request-Timeout", "10")
            .POST(HttpRequest.BodyPublishers.ofFile(picture))
            .build();
    HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
    if (response.statusCode() != 200) {
      throw new IllegalStateException(response.statusCode() + ": " + response.body());
    }
    return response.body();
  }

  public static void main(String[] words) throws Exception {
    String model = words.length > 1 ? words[1] : "digits";
    String server = "http://" + (words.length > 2 ? words[2] : "localhost:8002");
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    System.out.println(classify(client, server, model, Path.of(words[0])));
  }
}
