"""PySpark against RingFS: spark_jobs.py URI. Event log, formats, partitions, streaming with checkpoints, text."""

import sys

from pyspark.sql import SparkSession


def main(uri: str) -> None:
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.hadoop.fs.defaultFS", uri)
        .config("spark.eventLog.enabled", "true")
        .config("spark.eventLog.dir", f"{uri}/spark-logs")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    frame = spark.range(0, 10_000).selectExpr("id", "id % 7 as k", "cast(id as string) as t")
    for kind in ("parquet", "csv", "json", "orc"):
        path = f"{uri}/s/{kind}"
        frame.write.format(kind).save(path)
        frame.write.mode("overwrite").format(kind).save(path)
        assert spark.read.format(kind).load(path).count() == 10_000, kind
    frame.write.mode("append").parquet(f"{uri}/s/parquet")
    assert spark.read.parquet(f"{uri}/s/parquet").count() == 20_000
    frame.write.partitionBy("k").parquet(f"{uri}/s/parts")
    assert spark.read.parquet(f"{uri}/s/parts").where("k = 3").count() == 1429
    spark.sparkContext.parallelize(["a", "b", "c"], 2).saveAsTextFile(f"{uri}/s/text")
    assert sorted(row.value for row in spark.read.text(f"{uri}/s/text").collect()) == ["a", "b", "c"]
    for expected in (20_000, 20_000):
        # The second query begins at the checkpoint of the first, and finds nothing new.
        query = (
            spark.readStream.schema(frame.schema)
            .parquet(f"{uri}/s/parquet")
            .writeStream.format("parquet")
            .option("checkpointLocation", f"{uri}/s/checkpoint")
            .option("path", f"{uri}/s/stream")
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination(120)
        assert spark.read.parquet(f"{uri}/s/stream").count() == expected
    spark.stop()
    print("DONE")


main(sys.argv[1])
